"""Numerical methods: functions and vectors in, numbers out. No networks, no data, no random draws."""
