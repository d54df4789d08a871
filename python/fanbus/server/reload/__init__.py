"""The reload of a server that runs: new code in new workers."""
