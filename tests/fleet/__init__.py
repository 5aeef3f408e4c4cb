"""A made-up fleet: nodes in five profiles with identity of their own and differences put there on purpose."""
