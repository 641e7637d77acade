"""Several engines behind one: a head that routes, members that answer, our own socket between them."""
