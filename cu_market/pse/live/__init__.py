"""What a running step's own curve says of its peak and its end. Without numpy: workers may ask."""
