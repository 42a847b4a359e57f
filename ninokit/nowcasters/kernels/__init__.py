"""What a forecast computes on a tile of edges, for each kind of device."""
