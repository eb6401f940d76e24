"""Cost-to-go fields: lookup tables that are computed once per layout and goal, then cached."""
