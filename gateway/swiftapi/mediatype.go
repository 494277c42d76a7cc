package swiftapi

import (
	"path"
	"strings"
)

// typeByName returns the content type of an object that came without one, by the
// end of its name. The table is our own, so that all gateways agree.
func typeByName(name string) string {
	if t, ok := mediaTypes[strings.ToLower(path.Ext(name))]; ok {
		return t
	}
	return defaultContentType
}

// mediaTypes are the registered types of common endings.
//
// Read only: it is a table, not state.
var mediaTypes = map[string]string{
	".7z": "application/x-7z-compressed", ".aac": "audio/aac", ".avi": "video/x-msvideo", ".avif": "image/avif",
	".bin": "application/octet-stream", ".bmp": "image/bmp", ".bz2": "application/x-bzip2",
	".c": "text/plain", ".conf": "text/plain", ".css": "text/css", ".csv": "text/csv",
	".doc":  "application/msword",
	".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	".eml":  "message/rfc822", ".eot": "application/vnd.ms-fontobject", ".eps": "application/postscript", ".epub": "application/epub+zip",
	".flac": "audio/flac", ".gif": "image/gif", ".gz": "application/gzip", ".h": "text/plain", ".heic": "image/heic",
	".htm": "text/html", ".html": "text/html", ".ico": "image/vnd.microsoft.icon", ".ics": "text/calendar",
	".jar": "application/java-archive", ".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".js": "text/javascript",
	".json": "application/json", ".log": "text/plain", ".m3u8": "application/vnd.apple.mpegurl", ".md": "text/markdown",
	".mid": "audio/midi", ".mjs": "text/javascript", ".mkv": "video/x-matroska", ".mov": "video/quicktime", ".mp3": "audio/mpeg", ".mp4": "video/mp4",
	".mpeg": "video/mpeg", ".mpg": "video/mpeg", ".odp": "application/vnd.oasis.opendocument.presentation",
	".ods": "application/vnd.oasis.opendocument.spreadsheet", ".odt": "application/vnd.oasis.opendocument.text",
	".ogg": "audio/ogg", ".opus": "audio/opus", ".otf": "font/otf", ".pdf": "application/pdf", ".png": "image/png",
	".ppt":  "application/vnd.ms-powerpoint",
	".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	".ps":   "application/postscript", ".py": "text/x-python", ".rar": "application/vnd.rar", ".rtf": "application/rtf",
	".sh": "application/x-sh", ".svg": "image/svg+xml", ".tar": "application/x-tar", ".tgz": "application/gzip",
	".tif": "image/tiff", ".tiff": "image/tiff", ".tsv": "text/tab-separated-values", ".ttf": "font/ttf", ".txt": "text/plain",
	".wasm": "application/wasm", ".wav": "audio/wav", ".weba": "audio/webm", ".webm": "video/webm", ".webp": "image/webp",
	".woff": "font/woff", ".woff2": "font/woff2", ".xhtml": "application/xhtml+xml", ".xls": "application/vnd.ms-excel",
	".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xml": "text/xml", ".xz": "application/x-xz",
	".yaml": "application/yaml", ".yml": "application/yaml", ".zip": "application/zip", ".zst": "application/zstd",
}
