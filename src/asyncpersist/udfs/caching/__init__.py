"""What stands in front of whoever runs a function: results that are there already, and calls that are under way."""
