"""``ninokit evaluate`` and ``ninokit compare``: what an arm saves against tuned rivals at averaged weights."""
