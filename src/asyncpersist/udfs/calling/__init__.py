"""How functions are called: each way of running them is one module, all with the same contract."""
