"""What a person sees while a run goes on: progress, captured output, signals."""
