"""ONNX files as float graphs of canonical operators, ready to be calibrated and lowered."""
