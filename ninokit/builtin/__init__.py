"""What ninokit itself registers, through the hooks that plugins use; a module imports what it offers when asked."""
