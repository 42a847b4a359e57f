"""``ninokit evaluate``: what a nowcaster saves on many tasks, against AdamW, tuned AdamW and other nowcasters."""
