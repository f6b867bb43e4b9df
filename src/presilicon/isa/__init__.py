"""The instruction set of the template: the narrow waist between compiler, simulator and RTL."""
