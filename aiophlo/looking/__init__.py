"""Looks for a dial in doubt in Plivo's list of calls: was the phone rung?"""
