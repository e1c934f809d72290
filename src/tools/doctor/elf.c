/* elf.c - section headers, then the version needs; every offset is checked against the file's length. */
#include "tools/doctor/elf.h"

#include <elf.h>
#include <endian.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tools/doctor/parse.h"

struct file {
  const char *bytes;
  size_t length;
};

/* A part of the file; false if it is not all there. */
static bool get(const struct file *f, uint64_t offset, void *to, size_t bytes) {
  if (offset > f->length || bytes > f->length - offset) return false;
  memcpy(to, f->bytes + offset, bytes);
  return true;
}

/* A section whose contents are in the file. */
static bool get_section(const struct file *f, const Elf64_Ehdr *header, unsigned index, Elf64_Shdr *section) {
  if (index >= header->e_shnum) return false;
  if (!get(f, header->e_shoff + (uint64_t)index * sizeof *section, section, sizeof *section)) return false;
  if (section->sh_type == SHT_NOBITS) section->sh_size = 0;
  return section->sh_offset <= f->length && section->sh_size <= f->length - section->sh_offset;
}

/* A string of a table; "" if it is not ended inside of it. */
static const char *string_at(const struct file *f, const Elf64_Shdr *strings, uint32_t offset) {
  if (offset >= strings->sh_size) return "";
  const char *start = f->bytes + strings->sh_offset + offset;
  return memchr(start, 0, strings->sh_size - offset) ? start : "";
}

static void take(const char *name, char *version, size_t bytes) {
  if (!strncmp(name, "GLIBC_2", 7) && doctor_compare_versions(name + 6, version) > 0)
    snprintf(version, bytes, "%s", name + 6);
}

/* One library's needs. */
static bool read_names(const struct file *f, const Elf64_Shdr *strings, uint64_t at, unsigned count, char *version,
                       size_t bytes) {
  Elf64_Vernaux name;
  for (; count; count--, at += name.vna_next) {
    if (!get(f, at, &name, sizeof name)) return false;
    take(string_at(f, strings, name.vna_name), version, bytes);
    if (!name.vna_next) break;
  }
  return true;
}

static bool read_needs(const struct file *f, const Elf64_Ehdr *header, const Elf64_Shdr *needs, char *version,
                       size_t bytes) {
  Elf64_Shdr strings;
  Elf64_Verneed need;
  uint64_t at = needs->sh_offset;
  if (!get_section(f, header, needs->sh_link, &strings)) return false;
  for (unsigned count = needs->sh_info; count; count--, at += need.vn_next) {
    if (!get(f, at, &need, sizeof need)) return false;
    if (!read_names(f, &strings, at + need.vn_aux, need.vn_cnt, version, bytes)) return false;
    if (!need.vn_next) break;
  }
  return true;
}

bool doctor_elf_glibc(const char *bytes, size_t length, char *version, size_t version_bytes) {
  const struct file f = {bytes, length};
  Elf64_Ehdr header;
  Elf64_Shdr section;
  *version = 0;
  if (!get(&f, 0, &header, sizeof header) || memcmp(header.e_ident, ELFMAG, SELFMAG)) return false;
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_shentsize != sizeof section) return false;
  if (header.e_ident[EI_DATA] != (__BYTE_ORDER == __LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB)) return false;
  for (unsigned i = 0; i < header.e_shnum; i++) {
    if (!get_section(&f, &header, i, &section)) return false;
    if (section.sh_type == SHT_GNU_verneed && !read_needs(&f, &header, &section, version, version_bytes)) return false;
  }
  return true;
}
