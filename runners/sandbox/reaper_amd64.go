package sandbox

import (
	"bytes"
	"encoding/binary"
)

// reaperCode is what process 1 of a sandbox runs: it ends whatever outlives
// its parent and tells how the program ended. It reads the program's number
// from descriptor 3, waits for processes until it has none or that one has
// ended, writes that one's wait status to descriptor 4, and exits, at which
// the kernel ends all that is left in the sandbox. A resident Go process would
// cost each worker megabytes; this costs a page.
var reaperCode = []byte{
	0x48, 0x83, 0xec, 0x10, //             sub  rsp, 16
	0x31, 0xc0, //                         xor  eax, eax       ; read
	0xbf, 0x03, 0x00, 0x00, 0x00, //       mov  edi, 3
	0x48, 0x89, 0xe6, //                   mov  rsi, rsp
	0xba, 0x04, 0x00, 0x00, 0x00, //       mov  edx, 4
	0x0f, 0x05, //                         syscall
	0x8b, 0x1c, 0x24, //                   mov  ebx, [rsp]     ; the program
	// loop:
	0xb8, 0x3d, 0x00, 0x00, 0x00, //       mov  eax, 61        ; wait4
	0xbf, 0xff, 0xff, 0xff, 0xff, //       mov  edi, -1
	0x48, 0x89, 0xe6, //                   mov  rsi, rsp
	0x31, 0xd2, //                         xor  edx, edx
	0x45, 0x31, 0xd2, //                   xor  r10d, r10d
	0x0f, 0x05, //                         syscall
	0x83, 0xf8, 0xf6, //                   cmp  eax, -10       ; ECHILD
	0x74, 0x18, //                         je   exit
	0x39, 0xd8, //                         cmp  eax, ebx
	0x75, 0xe3, //                         jne  loop
	0xb8, 0x01, 0x00, 0x00, 0x00, //       mov  eax, 1         ; write
	0xbf, 0x04, 0x00, 0x00, 0x00, //       mov  edi, 4
	0x48, 0x89, 0xe6, //                   mov  rsi, rsp
	0xba, 0x04, 0x00, 0x00, 0x00, //       mov  edx, 4
	0x0f, 0x05, //                         syscall
	// exit:
	0xb8, 0xe7, 0x00, 0x00, 0x00, //       mov  eax, 231       ; exit_group
	0x31, 0xff, //                         xor  edi, edi
	0x0f, 0x05, //                         syscall
}

// reaper is the program as an ELF file of one segment.
func reaper() []byte {
	const base, header, segment = 0x400000, 64, 56
	var b bytes.Buffer
	size := uint64(header + segment + len(reaperCode))
	_ = binary.Write(&b, binary.LittleEndian, struct { // a buffer takes all
		Ident                                          [16]byte
		Type, Machine                                  uint16
		Version                                        uint32
		Entry, Segments, Sections                      uint64
		Flags                                          uint32
		HeaderSize, SegmentSize, SegmentCount          uint16
		SectionSize, SectionCount, SectionNames        uint16
		Kind, Access                                   uint32
		Offset, Address, Physical, InFile, InMem, Page uint64
	}{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', 2, 1, 1}, Type: 2, Machine: 62, Version: 1,
		Entry: base + header + segment, Segments: header, HeaderSize: header, SegmentSize: segment, SegmentCount: 1,
		Kind: 1, Access: 5, Address: base, Physical: base, InFile: size, InMem: size, Page: 0x1000,
	})
	b.Write(reaperCode)
	return b.Bytes()
}
