from hypothesis import given, settings
from hypothesis import strategies as st

from presilicon.trace import Activity, Span, Trace

counts = st.dictionaries(st.sampled_from(("dram", "scratchpad", "matmul")), st.integers(1, 9), max_size=3)
activities = st.builds(
    Activity,
    cycles=st.integers(0, 9),
    busy=counts,
    macs=st.integers(0, 9),
    fp_operations=st.integers(0, 9),
    reads=counts,
    writes=counts,
)


@settings(deadline=None)
@given(st.lists(activities, max_size=4))
def test_activities_add_up(parts: list[Activity]):
    total = Activity.total(parts)
    assert total.macs == sum(p.macs for p in parts)
    assert total.cycles == sum(p.cycles for p in parts)
    for name in ("dram", "scratchpad", "matmul"):
        for field in ("busy", "reads", "writes"):
            assert getattr(total, field).get(name, 0) == sum(getattr(p, field).get(name, 0) for p in parts)


def test_utilization_is_a_share_of_the_cycles():
    assert Activity(cycles=10, busy={"matmul": 4}).utilization("matmul") == 0.4
    assert Activity().utilization("matmul") == 0.0
    assert Trace(10, (Span("matmul", 0, 4, "product"),), Activity(cycles=10)).spans[0].detail == {}
