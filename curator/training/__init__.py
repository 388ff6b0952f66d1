"""Trainers: the only modules that train with torch, TRL or peft. They need `goldless[train]`."""
