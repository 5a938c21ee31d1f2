package schedule

// deque is a line that is joined at both ends and left at the front. The zero value is empty.
type deque[T any] struct {
	ring  []T
	first int
	size  int
}

func (d *deque[T]) len() int { return d.size }

// front returns the first element, which must be there.
func (d *deque[T]) front() T { return d.ring[d.first] }

func (d *deque[T]) pushBack(v T) {
	d.grow()
	d.ring[(d.first+d.size)%len(d.ring)] = v
	d.size++
}

func (d *deque[T]) pushFront(v T) {
	d.grow()
	d.first = (d.first - 1 + len(d.ring)) % len(d.ring)
	d.ring[d.first] = v
	d.size++
}

// popFront returns the first element, which must be there, and takes it out.
func (d *deque[T]) popFront() T {
	var zero T
	v := d.ring[d.first]
	d.ring[d.first] = zero
	d.first = (d.first + 1) % len(d.ring)
	d.size--
	return v
}

func (d *deque[T]) grow() {
	if d.size < len(d.ring) {
		return
	}
	ring := make([]T, max(16, 2*len(d.ring)))
	for i := range d.size {
		ring[i] = d.ring[(d.first+i)%len(d.ring)]
	}
	d.ring, d.first = ring, 0
}
