"""The processes that train, and the threads that watch over them."""
