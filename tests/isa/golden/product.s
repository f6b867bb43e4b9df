# y = x w for 24 rows, w in int4 with multipliers.
input x int8 24x64 at 0x0
output y int32 24x16 at 0x1000
state w uint8 544 at 0x800
kernel out:
  stream0 = acc * imm(1)
code at 0x2000:
  load dram=w spad=0x8000 run=544
  load dram=x n1=24 run=64 stride1=64 pitch=64 signal(matmul)
  load dram=out run=16 target=kernels signal(vector)
  matmul x=0 w=0x8000 groups=0x8200 m0=24 kb=4 tail=16 x_stride0=64 weights=int4 group_blocks=1 wait(load) signal(vector)
  sync engine=vector wait(load)
  vector kernel=out stream0=0x4000 rows=24 strips=1 columns=16 valid=16 pitch0=64 formats=int32 wait(matmul) signal(store)
  store dram=y spad=0x4000 n1=24 run=64 stride1=64 pitch=64 wait(vector)
  halt
