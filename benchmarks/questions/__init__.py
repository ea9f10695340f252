"""What is asked, a module each: `measure` asks it, `work` is what a process does."""
