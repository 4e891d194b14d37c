"""Data retention: rules, legal holds, and the process that erases data past its retention period."""
