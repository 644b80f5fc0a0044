package conf

// Default fills a field that the file left empty (zero).
func Default[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
