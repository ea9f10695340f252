"""What measures, judges and shows: servers, loads, turns, figures and reports."""
