"""Being here makes the helpers beside it (``fuzz``) importable from every room's tests."""
