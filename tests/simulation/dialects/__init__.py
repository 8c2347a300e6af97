"""What happens in the world, as each provider's callbacks tell it."""
