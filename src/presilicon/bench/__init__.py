"""MLPerf's scenarios as a benchmark of a chip: with the real LoadGen in stretched time, or in virtual time.

Results are predictions: "MLPerf-style, unverified".
"""

from presilicon.bench._result import Result
from presilicon.bench._rules import LABEL, SCENARIOS
from presilicon.bench._run import DEFAULT_SECONDS, bench
from presilicon.bench._system import System, loaded, network_system
from presilicon.bench._tokens import TokenSystem, token_system
from presilicon.bench._workload import options_of

__all__ = [
    "DEFAULT_SECONDS",
    "LABEL",
    "SCENARIOS",
    "Result",
    "System",
    "TokenSystem",
    "bench",
    "loaded",
    "network_system",
    "options_of",
    "token_system",
]
