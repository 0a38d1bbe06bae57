"""Which endpoint gets the next attempt: statistics, pickers, outlier detection. Pure."""
