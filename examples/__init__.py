"""Applications to read and to run. No part of the package."""
