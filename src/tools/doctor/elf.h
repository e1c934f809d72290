/* elf.h - what a shared library asks of the system, read from its file without loading it. */
#ifndef DOCTOR_ELF_H
#define DOCTOR_ELF_H

#include <stdbool.h>
#include <stddef.h>

/* The newest GLIBC_x.y that the library needs, as "2.34"; "" if none. bytes: the whole file. False if it is no 64-bit
 * ELF file of this machine's byte order, or is damaged. */
bool doctor_elf_glibc(const char *bytes, size_t length, char *version, size_t version_bytes);

#endif
