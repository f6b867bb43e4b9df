"""Systems that tests put together by hand."""

from presilicon.bench import System
from presilicon.scenario import BatchTimes

TIMES = BatchTimes((1.0, 2.0, 4.0, 8.0, 16.0), (0.010, 0.012, 0.016, 0.024, 0.040))


def system(chips: int = 1, times: BatchTimes = TIMES, bound_s: float | None = 0.1) -> System:
    return System(model="net", chip="chip", family="none", chips=chips, formats="int8/int8/int8", alone=times, stream=times,
                  queued=times, benchmark="", bound_s=bound_s)  # fmt: skip
