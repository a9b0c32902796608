"""What will be asked of the market in the next hours and days."""
