"""A CU's side: the warm worker, its steps, the meter, the relay."""
