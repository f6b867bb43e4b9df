# Eight rows of r2 scores become probabilities: maximum, exponentials and their sum, then the quotient.
input scores float32 8x64 at 0x0
output weights float32 8x64 at 0x800
data at 0x2000:                      # table 0: any rising function will do here
  0000803f 0000003f 0000803e 0000003e 0000803d 0000003d 0000803c 0000003c
  0000803f 0000003f 0000803e 0000003e 0000803d 0000003d 0000803c 0000003c
kernel largest:
  r1 = stream0
  loop {
    r1 = max(stream0 * imm(1), r1) masked
  }
  r1 = max(r1 * imm(1), r1)
  stream1 = r1
kernel scaled:
  r2 = stream1
  loop step 2 {
    r3 = stream0 * imm(1) - r2
    stream0 = r3 * imm(0.5)
    r3 = stream0 * imm(1) - r2 @1
    stream0 = r3 * imm(0.5) @1
  }
code at 0x3000:
  load dram=largest run=192 target=kernels
  load dram=scores n1=8 run=256 stride1=256 pitch=256 signal(vector)
  vector kernel=largest stream0=0 stream1=0x2000 rows=8 strips=4 columns=64 valid=r2 pitch0=256 pitch1=64 fixed=2 wait(load)
  loop r1 {
    vector kernel=scaled stream0=0 stream1=0x2000 rows=8 strips=4 columns=64 valid=64 pitch0=256 pitch1=64 fixed=2
    set r4 = r4 add r2-1
  }
  sync engine=vector signal(store)
  store dram=weights n1=8 run=256 stride1=256 pitch=256 wait(vector)
  halt
