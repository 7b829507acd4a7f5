"""Sources, data sets, models and protocols. Importing this package does not import torch."""
