/* signatures.cc - compiled only: symbols.def against nccl.h (check_signatures.sh). Both declare the same C functions; ours
 * are put into a namespace, so that both can be seen. */
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include <nccl.h>

namespace ours {
typedef int nccl_result_t, nccl_datatype_t, nccl_redop_t;
typedef struct nccl_comm *nccl_comm_t;
struct nccl_unique_id_t {
  char internal[128];
};
struct nccl_team_t {
  int nranks, rank, stride;
};
struct nccl_multimem_t {
  void *base;
};
#define SYMBOL(name, parameters, arguments)                 nccl_result_t nccl##name parameters;
#define OTHER(result, name, parameters, arguments, lacking) result nccl##name parameters;
#include "front/symbols.def"
} // namespace ours

template <typename T> constexpr int kind() {
  if (std::is_void_v<T>) return 0;
  if (std::is_pointer_v<T>) return 1;
  if (std::is_integral_v<T> || std::is_enum_v<T>) return 2;
  return 3;
}
template <typename T> constexpr size_t size() {
  if constexpr (std::is_void_v<T>)
    return 0;
  else
    return sizeof(T);
}
template <typename A, typename B> constexpr bool alike = kind<A>() == kind<B>() && size<A>() == size<B>();
template <typename A, typename B> struct same : std::false_type {};
/* Where the numbers of arguments differ the list of pairs does not compile, which says so too. */
template <typename R, typename S, typename... A, typename... B>
struct same<R (*)(A...), S (*)(B...)> : std::bool_constant<alike<R, S> && (true && ... && alike<A, B>)> {};

#define CHECK(name)                                                                                                    \
  static_assert(same<decltype(&::nccl##name), decltype(&ours::nccl##name)>::value, "nccl" #name " is declared otherwise");
#include CHECKS
