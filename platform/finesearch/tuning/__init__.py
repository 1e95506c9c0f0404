"""WHICH trial runs WHERE: Optuna decides, Ray Tune executes, on warm Ray Train worker groups."""
