"""Steps become instructions: one emission a kind of step, a schedule of strands, memories as arenas and caches."""

from presilicon.compiler.emission.programs import Emitted, emit

__all__ = ["Emitted", "emit"]
