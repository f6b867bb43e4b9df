"""Programs for every instruction and corner of the template, with what must come out: the levels are compared on them."""

from presilicon.compiler.corpus.programs import CORPUS, Case, gemm_case, prepare, random_case

__all__ = ["CORPUS", "Case", "gemm_case", "prepare", "random_case"]
