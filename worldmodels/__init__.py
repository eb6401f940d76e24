"""How the world answers an action: learned dynamics models, and the simulator behind the same contract."""
