package ring

// Part of the ring file's format, as the package's comment says: a hint must be found
// where another version of the program put it.
//
// Handoffs of partitions 0 and 63 of sample(6, 3, 2, 2, 2, 2).
var (
	handoffGolden0  = []DeviceID{13, 46, 28, 40, 19, 55, 22, 43, 10, 49, 31, 34, 16}
	handoffGolden63 = []DeviceID{16, 37, 22, 49, 13, 34, 31, 52, 19, 43, 25, 46, 10}
)
