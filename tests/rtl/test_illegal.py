"""Each law of the hardware, broken by one instruction: the error that answers it, whose it is and where; and its limits."""

import numpy as np
from dma_bench import UNEVEN
from illegal import CODES, PROGRAM, illegal, image

from presilicon.rtl.runner import Launch, RtlMachine

MEMORY_BYTES = 1 << 16


def test_every_law_is_answered() -> None:
    with RtlMachine(UNEVEN, np.zeros(MEMORY_BYTES, np.uint8)) as machine:
        wrong = []
        for one in illegal(UNEVEN):
            machine.reset()
            machine.memory[:] = np.frombuffer(bytes(image(one, MEMORY_BYTES)), np.uint8)
            done = machine.run([Launch(address=PROGRAM, size_bytes=len(one.data))], max_cycles=20_000, watchdog=5_000)
            told = done.fault and (done.fault.code, done.fault.engine, done.fault.pc)
            expected = None if one.legal else (CODES[one.code], one.engine, one.pc)
            if told != expected:
                wrong.append((one.name, one.code, told, expected))
        assert not wrong, "\n".join(map(str, wrong))
