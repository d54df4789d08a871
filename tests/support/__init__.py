"""What tests share: servers and clients to test with, and the programs around them."""
