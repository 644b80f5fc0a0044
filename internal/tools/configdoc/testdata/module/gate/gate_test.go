package gate

// Config here must not hide the other.
type Config struct{}
