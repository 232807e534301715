"""What a person types, a file for each group. No logic: a command calls one function."""
