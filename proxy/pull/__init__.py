"""One pull: which upstream answer becomes which answer to the node."""
