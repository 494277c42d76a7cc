package node

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"ringfort/gateway/s3api"
	"ringfort/gateway/swiftapi"
)

// metrics are what /metrics shows.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(n *Node) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ringfort_requests_total", Help: "Requests answered, by protocol, operation and status."},
			[]string{"protocol", "operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ringfort_request_seconds", Help: "Time from a request's headers to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)},
			[]string{"protocol", "operation"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, &deviceCollector{n},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ringfort_requests_under_way", Help: "Requests being answered now."},
			func() float64 { return float64(n.handler.Running()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ringfort_requests_refused_total", Help: "Requests refused because too many were under way."},
			func() float64 { return float64(n.handler.Refused()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "ringfort_peer_devices_gone_back_total", Help: "Devices of other nodes that came back with less than they had told before."},
			func() float64 { return float64(n.memory.behind.Load()) }))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) observeS3(e *s3api.Event) { m.observe("s3", e.Operation, e.Status, e.Duration) }

func (m *metrics) observeSwift(e *swiftapi.Event) {
	m.observe("swift", e.Operation, e.Status, e.Duration)
}

func (m *metrics) observe(protocol, operation string, status int, d time.Duration) {
	m.requests.WithLabelValues(protocol, operation, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(protocol, operation).Observe(d.Seconds())
}

// deviceCollector shows the devices as they are when asked.
type deviceCollector struct{ n *Node }

var (
	deviceUp    = prometheus.NewDesc("ringfort_device_in_service", "1 if the device is in service.", []string{"device", "dir"}, nil)
	deviceBytes = prometheus.NewDesc("ringfort_device_bytes", "Size of the device's file system, in bytes.", []string{"device", "dir", "kind"}, nil)
	deviceCalls = prometheus.NewDesc("ringfort_device_calls", "Calls that the device works on.", []string{"device", "dir"}, nil)
)

// Describe implements prometheus.Collector.
func (c *deviceCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- deviceUp
	ch <- deviceBytes
	ch <- deviceCalls
}

// Collect implements prometheus.Collector.
func (c *deviceCollector) Collect(ch chan<- prometheus.Metric) {
	for _, d := range c.n.local.order {
		st := d.status()
		id := strconv.FormatUint(uint64(d.id), 10)
		up := 0.0
		if d.inService() {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(deviceUp, prometheus.GaugeValue, up, id, d.dir)
		ch <- prometheus.MustNewConstMetric(deviceBytes, prometheus.GaugeValue, float64(st.TotalBytes), id, d.dir, "total")
		ch <- prometheus.MustNewConstMetric(deviceBytes, prometheus.GaugeValue, float64(st.FreeBytes), id, d.dir, "free")
		ch <- prometheus.MustNewConstMetric(deviceCalls, prometheus.GaugeValue, float64(d.calls.Load()), id, d.dir)
	}
}
