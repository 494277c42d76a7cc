package benchtool

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"ringfort/internal/errs"
)

// clockTicksPerSecond is the unit of /proc/PID/stat, which is 100 a second on
// every architecture that Go runs Linux on.
const clockTicksPerSecond = 100

// Usage is what a process has used of the machine. Counters run from the start of
// the process in what [readUsage] returns, and over one figure in a report.
type Usage struct {
	PID        int     `json:"pid"`
	CPUSeconds float64 `json:"cpu_seconds"`
	// WrittenBytes is what the process caused to be sent to disks, by the
	// kernel's count; -1 if the kernel does not say.
	WrittenBytes int64 `json:"written_bytes"`
	// ResidentBytes and PeakResidentBytes are of the moment, in reports too: the
	// peak is that of the process's whole life.
	ResidentBytes     int64 `json:"resident_bytes"`
	PeakResidentBytes int64 `json:"peak_resident_bytes"`
}

// readUsage asks the kernel about process pid. It works on Linux only.
func readUsage(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	u := Usage{PID: pid, WrittenBytes: -1}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return u, errs.Wrap("bench: process "+strconv.Itoa(pid), errs.NotFound, err)
	}
	if u.CPUSeconds, err = parseStat(stat); err != nil {
		return u, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return u, errs.Wrap("bench: process "+strconv.Itoa(pid), errs.NotFound, err)
	}
	u.ResidentBytes = parseField(status, "VmRSS:") * 1024
	u.PeakResidentBytes = parseField(status, "VmHWM:") * 1024
	// Another user's process hides its input and output; the rest is still good.
	if io, err := os.ReadFile(dir + "/io"); err == nil {
		u.WrittenBytes = parseField(io, "write_bytes:")
	}
	return u, nil
}

// parseStat returns the processor seconds, user and system, in a /proc/PID/stat.
func parseStat(b []byte) (float64, error) {
	// The program's name, in parentheses, may hold spaces and parentheses.
	i := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[i+1:]))
	const utime, stime = 11, 12 // counted from the field after the name
	if i < 0 || len(fields) <= stime {
		return 0, errs.New("bench", errs.Invalid, "/proc/PID/stat has an unknown form")
	}
	user, err1 := strconv.ParseUint(fields[utime], 10, 64)
	system, err2 := strconv.ParseUint(fields[stime], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, errs.New("bench", errs.Invalid, "/proc/PID/stat has an unknown form")
	}
	return float64(user+system) / clockTicksPerSecond, nil
}

// parseField returns the number behind name in a file of "name: number" lines,
// and 0 if there is none.
func parseField(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		var n int64
		if _, err := fmt.Sscan(rest, &n); err == nil {
			return n
		}
	}
	return 0
}

// readUsages reads all of pids.
func readUsages(pids []int) ([]Usage, error) {
	all := make([]Usage, 0, len(pids))
	for _, pid := range pids {
		u, err := readUsage(pid)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// since returns what u used after before was read, and u's memory as it is.
func (u Usage) since(before Usage) Usage {
	u.CPUSeconds -= before.CPUSeconds
	if u.WrittenBytes >= 0 && before.WrittenBytes >= 0 {
		u.WrittenBytes -= before.WrittenBytes
	}
	return u
}

// busySeconds returns the processor time that the whole machine has spent on
// anything since it started, all processors together, and false if it is unknown.
func busySeconds() (float64, bool) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, false
	}
	return parseBusy(string(b))
}

// parseBusy reads the first line of /proc/stat: user, nice, system, idle, iowait,
// irq, softirq and steal. Time stolen by a hypervisor counts as busy: it was not
// to be had.
func parseBusy(stat string) (float64, bool) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	const idle, iowait, last = 4, 5, 8
	if len(fields) <= last || fields[0] != "cpu" {
		return 0, false
	}
	var ticks uint64
	for i, f := range fields[1 : last+1] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, false
		}
		if i+1 != idle && i+1 != iowait {
			ticks += n
		}
	}
	return float64(ticks) / clockTicksPerSecond, true
}
