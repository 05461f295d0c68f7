// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

/// @title Official system contracts for tests
/// @notice Runtime code and storage as Hoodi has them at genesis, read from the pinned npm package; nothing is copied.
library Genesis {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    string private constant STATE = "node_modules/@ethereumjs/genesis/dist/esm/genesisStates/hoodi.js";

    address internal constant DEPOSIT_CONTRACT = 0x00000000219ab540356cBB839Cbe05303d7705Fa;
    address internal constant WITHDRAWAL_REQUESTS = 0x00000961Ef480Eb55e80D19ad83579A64c007002;
    /// Caller of the end-of-block system calls.
    address internal constant SYSTEM = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE;

    /// @notice The deposit contract with its 31 zero hashes, without which its roots are wrong.
    function installDepositContract() internal {
        require(_install("0x00000000219ab540356cbb839cbe05303d7705fa", DEPOSIT_CONTRACT) == 31, "31 slots");
    }

    /// @notice The EIP-7002 contract, past its activation: slot 0 holds an inhibitor until the first system call.
    function installWithdrawalRequests() internal {
        require(_install("0x00000961ef480eb55e80d19ad83579a64c007002", WITHDRAWAL_REQUESTS) == 1, "1 slot");
        vm.store(WITHDRAWAL_REQUESTS, 0, 0);
    }

    /// @dev An entry reads `'0xaddress': ['balance', 'code', [['slot', 'value'], ...], 'nonce'],`: every second piece
    /// between quotes is a value.
    function _install(string memory entry, address account) private returns (uint256 slots) {
        string[] memory parts = vm.split(vm.readFile(STATE), string.concat("'", entry, "': ["));
        require(parts.length == 2, "genesis entry not found");
        string[] memory quoted = vm.split(vm.split(parts[1], "\n    ],")[0], "'");
        vm.etch(account, vm.parseBytes(quoted[3]));
        for (uint256 i = 5; i + 4 < quoted.length; i += 4) {
            vm.store(account, vm.parseBytes32(quoted[i]), vm.parseBytes32(quoted[i + 2]));
            ++slots;
        }
    }
}
