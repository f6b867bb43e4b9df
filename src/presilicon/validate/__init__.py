"""Predictions beside what was published and measured, the constants fitted for them, and how far one may trust them."""

from presilicon.validate.calibrate import Calibration, calibrate
from presilicon.validate.claims import Claim, claims
from presilicon.validate.page import markdown
from presilicon.validate.report import ValidationReport, validate
from presilicon.validate.score import TableReport

__all__ = ["Calibration", "Claim", "TableReport", "ValidationReport", "calibrate", "claims", "markdown", "validate"]
