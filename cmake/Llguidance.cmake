# The target llguidance: the Rust library of that name with its C interface, as locked in
# src/grammar/llguidance/Cargo.lock. All presets share one build for each processor, in build/cargo.

set(llguidance_crate ${PROJECT_SOURCE_DIR}/src/grammar/llguidance)
find_program(CARGO cargo PATHS /usr/bin NO_DEFAULT_PATH)
find_program(CARGO cargo REQUIRED)
get_filename_component(rust_bin ${CARGO} DIRECTORY)

string(TOLOWER ${CMAKE_SYSTEM_PROCESSOR} rust_processor)
if(rust_processor MATCHES "^(arm64|aarch64)$")
  set(rust_processor aarch64)
elseif(rust_processor MATCHES "^(amd64|x86_64)$")
  set(rust_processor x86_64)
endif()
set(rust_target ${rust_processor}-unknown-linux-gnu)
if(APPLE)
  set(rust_target ${rust_processor}-apple-darwin)
endif()

set(cargo_env ${CMAKE_COMMAND} -E env RUSTC=${rust_bin}/rustc CARGO_NET_RETRY=10 CARGO_TERM_COLOR=never
  CARGO_TARGET_DIR=${PROJECT_SOURCE_DIR}/build/cargo)
if(CMAKE_CROSSCOMPILING)
  # Rust's own library for that processor comes with the other foreign packages.
  string(TOUPPER ${rust_target} rust_target_name)
  string(REPLACE "-" "_" rust_target_name ${rust_target_name})
  list(APPEND cargo_env
    CARGO_TARGET_${rust_target_name}_LINKER=${CMAKE_C_COMPILER}
    "CARGO_TARGET_${rust_target_name}_RUSTFLAGS=--sysroot=${CMAKE_FIND_ROOT_PATH}/usr")
endif()

# The header lies in cargo's copy of the sources, which this fetches.
execute_process(
  COMMAND ${cargo_env} ${CARGO} metadata --locked --format-version 1 --filter-platform ${rust_target}
    --manifest-path ${llguidance_crate}/Cargo.toml
  OUTPUT_VARIABLE metadata COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCH "\"manifest_path\":\"([^\"]*/llguidance-[0-9.]+)/Cargo.toml\"" found "${metadata}")
if(NOT found)
  message(FATAL_ERROR "cargo metadata does not say where the sources of llguidance are")
endif()
set(llguidance_sources ${CMAKE_MATCH_1})

set(llguidance_library
  ${PROJECT_SOURCE_DIR}/build/cargo/${rust_target}/release/libmach_llguidance.a)
set(llguidance_stamp ${PROJECT_BINARY_DIR}/llguidance.stamp)
add_custom_command(
  OUTPUT ${llguidance_stamp}
  BYPRODUCTS ${llguidance_library}
  COMMAND ${cargo_env} ${CARGO} build --quiet --release --locked --target ${rust_target}
    --manifest-path ${llguidance_crate}/Cargo.toml
  COMMAND ${CMAKE_COMMAND} -E touch ${llguidance_stamp}
  DEPENDS ${llguidance_crate}/Cargo.toml ${llguidance_crate}/Cargo.lock
    ${llguidance_crate}/src/lib.rs
  COMMENT "Building llguidance (${rust_target})" VERBATIM)
add_custom_target(llguidance_build DEPENDS ${llguidance_stamp})

add_library(llguidance INTERFACE)
add_dependencies(llguidance llguidance_build)
target_include_directories(llguidance SYSTEM INTERFACE ${llguidance_sources})
target_link_libraries(llguidance INTERFACE
  ${llguidance_library} Threads::Threads ${CMAKE_DL_LIBS} m)
