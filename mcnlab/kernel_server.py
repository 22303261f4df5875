"""What the server of forks loads first: it ends with its owner, also while it is still loading the other libraries."""

from mcnlab.processes import kill_at_end_of_parent

kill_at_end_of_parent()
