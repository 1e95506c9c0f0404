"""Which trial runs where: Optuna decides, Ray Tune executes, warm Ray Train worker groups train."""
