"""The built-in benchmark tasks, one module a data set."""
